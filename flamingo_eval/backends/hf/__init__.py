"""Vision-language models through transformers (extra `hf`): one adapter for all families, never remote code.

folder.py checks what is on disk, processor.py loads the processor, reader.py writes prompts as token ids, pictures.py
keeps what each picture becomes, network.py runs the model, engine.py answers prompts in batches.
"""
