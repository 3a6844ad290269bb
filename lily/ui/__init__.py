"""The page: a Gradio Blocks app in small parts. The recording on the left, the player on the right.

``page`` lays it out and wires it, ``run`` follows the engine's events without knowing Gradio,
``handlers`` translate between the two. Gradio is imported in this room only.
"""
