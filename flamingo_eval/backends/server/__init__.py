"""Models behind an address that speaks the chat-completions protocol: vLLM, SGLang, llama.cpp, vendors."""
