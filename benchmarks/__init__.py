"""Artifacts times backends: speed and quality side by side, in one report. It may use every other package."""

if __name__ == "benchmarks":  # by its folder's name, in a clone
    from jisu.folder_names import use_folder_name

    use_folder_name(__name__)
