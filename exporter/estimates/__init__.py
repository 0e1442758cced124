"""What an export will need and give: bytes, seconds, disk space, speed on this machine.

It knows the rooms up to `quantization`.
"""
