"""Options that people bring along from other tools, and what to write instead."""

from collections.abc import Mapping

#: Wrong option, without its dashes → the answer, for every verb.
EVERYWHERE: Mapping[str, str] = {
    **dict.fromkeys(("bs", "batch", "batchsize"), "the number of images in a batch is --batch-size"),
    **dict.fromkeys(("num-workers", "jobs"), "the number of processes that load images is --workers"),
    **dict.fromkeys(("out", "out-dir", "output-dir", "save", "save-dir", "dest"), "the place to write to is --output"),
    **dict.fromkeys(("topk", "top-n", "k"), "the number of classes for each image is --top-k"),
    **dict.fromkeys(("data", "dataset", "data-dir", "source", "input"), "the data is an argument without an option"),
    **dict.fromkeys(("checkpoint", "ckpt", "model-path"), "the model is an argument without an option"),
    **dict.fromkeys(("verbose", "quiet", "silent"), "there is no such setting; --debug shows tracebacks"),
    **dict.fromkeys(("gpu", "gpus", "cuda", "cpu"), "the place to compute is --device, such as cuda or cpu"),
    **dict.fromkeys(("conf", "threshold"), "there is no threshold: all probabilities are reported"),
    **dict.fromkeys(("half", "fp16", "amp"), "the precision is --precision fp16"),
}

#: The same for ``volo train`` alone.
TRAIN: Mapping[str, str] = {
    **dict.fromkeys(
        ("patience", "early-stopping", "early-stop"),
        "there is no early stopping yet: a run lasts --epochs, and the model of its best epoch is kept",
    ),
    **dict.fromkeys(
        ("imgsz", "img-size", "input-size", "size", "resolution"), "the size of the images is --image-size"
    ),
    **dict.fromkeys(("learning-rate", "base-lr"), "the learning rate is --lr"),
    **dict.fromkeys(("weights", "init"), "the weights to start from are --pretrained"),
    **dict.fromkeys(("checkpoint", "ckpt"), "a run is resumed by --resume RUN; weights to start from are --pretrained"),
    **dict.fromkeys(("device", "gpu", "gpus", "cuda"), "the devices are --accelerator gpu and --devices N"),
    **dict.fromkeys(("opt", "optimizer"), "the optimizer is --optim.optimizer"),
    **dict.fromkeys(("wd", "weight-decay"), "the weight decay is --optim.weight-decay"),
    **dict.fromkeys(("sched", "scheduler", "lr-scheduler"), "the schedule of the learning rate is --optim.schedule"),
    **dict.fromkeys(("warmup", "warmup-epochs"), "the warm-up is --optim.warmup-epochs"),
    **dict.fromkeys(("ema", "model-ema"), "averaged weights are --optim.ema-decay, such as 0.9998"),
    **dict.fromkeys(("drop-path", "drop-path-rate", "dropout"), "stochastic depth is --model.drop-path-rate"),
    **dict.fromkeys(("smoothing", "label-smoothing"), "label smoothing is --loss.label-smoothing"),
    **dict.fromkeys(("mixup", "cutmix"), "MixToken takes the place of Mixup and CutMix: --loss.mix-token true"),
    **dict.fromkeys(("num-classes", "nc", "classes-count"), "the classes are counted in the data"),
    **dict.fromkeys(("freeze", "linear-probe"), "only the heads are trained with --model.freeze true"),
    **dict.fromkeys(("val", "val-split", "val-fraction", "split"), "the share held out is --data.val-fraction"),
    **dict.fromkeys(("half", "fp16"), "the precision is --precision fp16"),
    **dict.fromkeys(("amp", "bf16"), "the precision is --precision bf16"),
    **dict.fromkeys(("teacher", "token-labels"), "token labels, which volo label writes, are --data.token-labels"),
    **dict.fromkeys(("name", "project", "run-name"), "the folder of the run is --output"),
    **dict.fromkeys(("config", "cfg"), "a file of settings is a recipe: --recipe FILE"),
}
