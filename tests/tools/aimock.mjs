// Starts the mock language-model server on a free port, prints its URL and ends when its standard input does, that is
// with the test process, however that ends.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ host: "127.0.0.1", port: 0, logLevel: "silent" });
// What its moderation blocks; fixtures of that cannot be added from outside.
mock.onModerate(/forbidden fruit/, {
  flagged: true,
  categories: { violence: true, hate: false },
  category_scores: { violence: 0.9, hate: 0.1 },
});
await mock.start();
console.log(mock.url);
process.stdin.on("end", () => process.exit(0)).resume();
