"""Vision-language models through transformers (extra `hf`): one adapter for all families, never remote code.

folder.py checks the files, processor.py loads the processor, reader.py turns prompts into token ids, pictures.py caches
the inputs of each picture, network.py runs the model, engine.py answers prompts in batches.
"""
