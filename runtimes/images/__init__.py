"""Images to what a vision graph reads, and to their places in a prompt. Needs Pillow; knows no model and no backend.

What a checkpoint's own image processing does is done here in numpy and Pillow, to the last bit; the gate compares both.
"""
