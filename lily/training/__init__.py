"""From a folder of audio to a model folder: prepare once, then three stages, each resumable."""
