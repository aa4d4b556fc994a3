"""Serves llama.cpp's API on the port given, with a model of no sense: the shape of Llama, random weights, and bytes for a
vocabulary. The model is written into the folder given."""

import os
import signal
import sys

import gguf
import numpy
import xllamacpp

WIDTH, HIDDEN, HEADS, LAYERS, CONTEXT = 64, 128, 4, 2, 16384

port, folder = int(sys.argv[1]), sys.argv[2]
path = os.path.join(folder, "noise.gguf")

out = gguf.GGUFWriter(path, "llama")
out.add_name("noise")
out.add_context_length(CONTEXT)
out.add_embedding_length(WIDTH)
out.add_feed_forward_length(HIDDEN)
out.add_block_count(LAYERS)
out.add_head_count(HEADS)
out.add_head_count_kv(HEADS)
out.add_layer_norm_rms_eps(1e-5)
out.add_rope_dimension_count(WIDTH // HEADS)
out.add_file_type(gguf.LlamaFileType.ALL_F32)

special = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL)]
vocabulary = special + [(f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)]
out.add_tokenizer_model("llama")
out.add_token_list([token.encode() for token, _ in vocabulary])
out.add_token_types([kind for _, kind in vocabulary])
out.add_token_scores([0.0] * len(vocabulary))
out.add_vocab_size(len(vocabulary))
out.add_unk_token_id(0)
out.add_bos_token_id(1)
out.add_eos_token_id(2)
out.add_chat_template(
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

random = numpy.random.default_rng(7)


def weights(name, *shape):
    out.add_tensor(name + ".weight", random.normal(0, 0.3, shape).astype(numpy.float32))


def norm(name):
    out.add_tensor(name + ".weight", numpy.ones(WIDTH, numpy.float32))


weights("token_embd", len(vocabulary), WIDTH)
norm("output_norm")
weights("output", len(vocabulary), WIDTH)
for layer in range(LAYERS):
    block = f"blk.{layer}."
    norm(block + "attn_norm")
    norm(block + "ffn_norm")
    for part in ["attn_q", "attn_k", "attn_v", "attn_output"]:
        weights(block + part, WIDTH, WIDTH)
    weights(block + "ffn_gate", HIDDEN, WIDTH)
    weights(block + "ffn_up", HIDDEN, WIDTH)
    weights(block + "ffn_down", WIDTH, HIDDEN)
out.write_header_to_file()
out.write_kv_data_to_file()
out.write_tensors_to_file()
out.close()

settings = xllamacpp.CommonParams()
settings.model.path = path
settings.port = port
settings.n_ctx = CONTEXT
settings.n_parallel = 1
settings.cpuparams.n_threads = 1
# It never ends by itself.
settings.sampling.ignore_eos = True
server = xllamacpp.Server(settings)
signal.pause()
