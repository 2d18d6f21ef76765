"""Classify images with an exported model: python classify.py model.onnx photo.jpg ...

The script needs only onnxruntime, numpy and Pillow. Export the model with volo export MODEL --to onnx; the options
--include-resize, --include-preprocessing and --include-softmax are up to you.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
model = json.loads(session.get_modelmeta().custom_metadata_map["volo"])
height, width = model["preprocessing"]["size"]
share, resample = model["preprocessing"]["crop_pct"], model["preprocessing"]["interpolation"].upper()
mode = {1: "L", 3: "RGB", 4: "RGBA"}[len(model["preprocessing"]["mean"])]
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert(mode)
    if not model["include_resize"]:  # otherwise the exported file resizes and crops
        cover = (int(width / share), int(height / share))
        factor = max(cover[0] / image.width, cover[1] / image.height)
        image = image.resize([max(1, int(side * factor + 1e-6)) for side in image.size], Image.Resampling[resample])
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image).reshape(1, image.height, image.width, -1)
    if not model["include_preprocessing"]:
        mean, std = (np.array(model["preprocessing"][name], np.float32) for name in ("mean", "std"))
        pixels = ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    (scores,) = session.run(["scores"], {"images": pixels})[0]
    exponentials = np.exp(scores - scores.max())
    probabilities = scores if model["include_softmax"] else exponentials / exponentials.sum()
    best = probabilities.argsort()[::-1][:3]
    print(path, *(f"{model['class_names'][index]} {probabilities[index]:.1%}" for index in best))
