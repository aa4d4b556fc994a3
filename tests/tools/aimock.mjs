// Starts the mock language-model server on a free port, prints its URL and ends when its standard input does, that is
// with the test process, however that ends.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ host: "127.0.0.1", port: 0, logLevel: "silent" });
await mock.start();
console.log(mock.url);
process.stdin.on("end", () => process.exit(0)).resume();
