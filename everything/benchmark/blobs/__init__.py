"""A mask decoder that draws blobs around its prompts: a stand-in for trained weights."""
