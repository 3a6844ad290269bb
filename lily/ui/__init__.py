"""The page: a Gradio Blocks app in small parts. The question on the left, the answer on the right.

``page`` lays it out and wires it, ``run`` follows the engine's events without knowing Gradio,
``handlers`` translate between the two. Gradio is imported in this room only.
"""
