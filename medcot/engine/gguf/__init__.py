"""GGUF, the file that llama.cpp and Ollama run: written with the `gguf` library's names, writer and quantizers."""
