"""Text to statistics, scales and quantized weights. It imports none of the other packages."""

if __name__ == "calibration":  # by its folder's name, in a clone
    from jisu.folder_names import use_folder_name

    use_folder_name(__name__)
