"""Other people's files to a model: Hugging Face configurations, safetensors and GGUF headers, the hub."""
