"""From a folder of audio to a model folder: prepare once, then train stage by stage, resumably."""
