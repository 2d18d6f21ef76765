"""Options that people bring along from other tools, and what to write instead."""

import re
from collections.abc import Collection, Mapping

#: Wrong option, without its dashes → the answer, for every verb to which it applies; see :func:`find_hint`.
EVERYWHERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("bs", "b", "batch", "batchsize", "batch-sizes"), "the number of images in a batch is --batch-size"
    ),
    **dict.fromkeys(("num-workers", "n-workers", "jobs", "j"), "the number of processes that load images is --workers"),
    **dict.fromkeys(("out", "out-dir", "output-dir", "save", "save-dir", "dest"), "the place to write to is --output"),
    **dict.fromkeys(("topk", "top-n", "k"), "the number of most probable classes is --top-k"),
    **dict.fromkeys(("data", "dataset", "data-dir", "data-path"), "DATA is an argument without an option"),
    **dict.fromkeys(("source", "input", "image", "images"), "IMAGE is an argument without an option"),
    **dict.fromkeys(("checkpoint", "ckpt", "model-path", "weights"), "MODEL is an argument without an option"),
    **dict.fromkeys(("verbose", "quiet", "silent"), "there is no such setting; --debug shows tracebacks"),
    **dict.fromkeys(("gpu", "gpus", "cuda", "cpu"), "the place to compute is --device, such as cuda or cpu"),
    **dict.fromkeys(("conf", "threshold"), "there is no threshold; the number of most probable classes is --top-k"),
    **dict.fromkeys(("half", "fp16", "amp"), "the precision is --precision fp16"),
    **dict.fromkeys(("imgsz", "img-size", "input-size"), "the size of the images is --image-size"),
    **dict.fromkeys(("exist-ok", "force", "yes", "y", "f"), "existing files are replaced with --overwrite"),
}

_EARLY = "there is no early stopping yet: a run lasts --epochs, and the model of its best epoch is kept"
_KEPT = "the best and the last epoch are always kept; saves within an epoch are --checkpoint-minutes"
_COLORS = "RandAugment has the changes of color and shape: --augment.rand-augment is its strength"
_SCHEDULE = "the schedule of the learning rate is --optim.schedule, which is cosine or poly"

#: The same for ``volo train`` alone.
TRAIN: Mapping[str, str] = {
    # What there is under another name
    **dict.fromkeys(
        ("imgsz", "img-size", "image-sz", "input-size", "size", "resolution"), "the size of the images is --image-size"
    ),
    **dict.fromkeys(("max-epochs", "num-epochs", "n-epochs", "num-train-epochs"), "the epochs are --epochs"),
    **dict.fromkeys(
        ("per-device-train-batch-size", "train-batch-size"), "images in a batch on each device: --batch-size"
    ),
    **dict.fromkeys(
        ("grad-accum-steps", "accumulate-grad-batches", "gradient-accumulation-steps", "grad-accum", "update-freq"),
        "the batches of an optimizer step are --accumulate",
    ),
    **dict.fromkeys(("learning-rate", "base-lr", "lr0", "lr-max"), "the learning rate is --lr"),
    **dict.fromkeys(("lrf", "lr-min"), "the last learning rate is --optim.min-lr, a rate and not a share"),
    **dict.fromkeys(("min-lr",), "the last learning rate is --optim.min-lr"),
    **dict.fromkeys(("warmup-lr", "warmup-bias-lr"), "the first learning rate is --optim.warmup-lr"),
    **dict.fromkeys(("warmup", "warmup-epochs"), "the warm-up is --optim.warmup-epochs"),
    **dict.fromkeys(("warmup-steps", "warmup-iters"), "the warm-up is --optim.warmup-steps"),
    **dict.fromkeys(("cooldown", "cooldown-epochs"), "the last epochs at the lowest rate are --optim.cooldown-epochs"),
    **dict.fromkeys(("layer-decay", "lr-decay"), "the decay of the rates from layer to layer is --optim.layer-decay"),
    **dict.fromkeys(("opt", "optimizer"), "the optimizer is --optim.optimizer, which is adamw or muon"),
    **dict.fromkeys(("momentum", "beta1", "betas", "opt-betas"), "the decays of AdamW's averages are --optim.betas"),
    **dict.fromkeys(("wd", "weight-decay"), "the weight decay is --optim.weight-decay"),
    **dict.fromkeys(("sched", "scheduler", "lr-scheduler", "lr-scheduler-type", "cos-lr", "lr-schedule"), _SCHEDULE),
    **dict.fromkeys(("ema", "model-ema", "model-ema-decay", "ema-decay"), "averaged weights are --optim.ema-decay"),
    **dict.fromkeys(("drop-path", "drop-path-rate"), "stochastic depth is --model.drop-path-rate"),
    **dict.fromkeys(("drop", "dropout", "attn-drop"), "dropout is --model.pos-drop-rate and --model.attn-drop-rate"),
    **dict.fromkeys(("smoothing", "label-smoothing"), "label smoothing is --loss.label-smoothing"),
    **dict.fromkeys(
        ("class-weight", "class-weights", "weighted"), "weights of the classes in the loss are --loss.class-balance"
    ),
    **dict.fromkeys(("balanced", "oversample", "sampler"), "equally frequent classes are --data.balanced true"),
    **dict.fromkeys(
        ("mixup", "cutmix", "mixup-alpha", "cutmix-alpha"), "MixToken replaces both: --loss.mix-token true"
    ),
    **dict.fromkeys(("hflip", "fliplr"), "the probability of a flip is --augment.hflip"),
    **dict.fromkeys(("aa", "auto-augment", "autoaugment", "randaugment", "rand-augment"), _COLORS),
    **dict.fromkeys(("color-jitter", "hsv-h", "hsv-s", "hsv-v", "degrees", "translate", "shear"), _COLORS),
    **dict.fromkeys(("reprob", "random-erasing", "erasing"), "the probability of erasing a box is --augment.erasing"),
    **dict.fromkeys(
        ("scale", "ratio", "crop-scale", "crop-fraction"),
        "the random crop is --augment.crop-scale and --augment.crop-ratio",
    ),
    **dict.fromkeys(("crop-pct",), "the center crop of validation is --data.crop-pct"),
    **dict.fromkeys(("arch", "backbone", "network", "variant"), "the model is --model, one of those of volo models"),
    **dict.fromkeys(
        ("weights", "init", "initial-checkpoint", "finetune"), "the weights to start from are --pretrained"
    ),
    **dict.fromkeys(("checkpoint", "ckpt"), "a run is resumed by --resume RUN; weights to start from are --pretrained"),
    **dict.fromkeys(
        ("freeze", "linear-probe", "freeze-backbone"), "the heads alone are trained by --model.freeze true"
    ),
    **dict.fromkeys(("grad-checkpointing", "gradient-checkpointing"), "it is --model.grad-checkpointing true"),
    **dict.fromkeys(("in-chans", "channels"), "the channels of the images are --data.channels"),
    **dict.fromkeys(
        ("val", "val-split", "val-fraction", "validation-split", "valid-pct", "split"),
        "the share held out is --data.val-fraction",
    ),
    **dict.fromkeys(("device", "gpu", "gpus", "cuda", "ngpus"), "the devices are --accelerator gpu and --devices N"),
    **dict.fromkeys(("cpu", "no-cuda"), "the processor is chosen with --accelerator cpu"),
    **dict.fromkeys(("num-nodes", "nnodes"), "the number of machines is --nodes"),
    **dict.fromkeys(("sync-bn",), "statistics of all processes are --sync-batchnorm true"),
    **dict.fromkeys(("half", "fp16"), "the precision is --precision fp16"),
    **dict.fromkeys(("amp", "bf16", "mixed-precision"), "the precision is --precision bf16"),
    **dict.fromkeys(("torchcompile", "torch-compile"), "compiled blocks are --compile true"),
    **dict.fromkeys(("random-seed", "manual-seed"), "the seed is --seed"),
    **dict.fromkeys(("teacher", "token-labels"), "token labels, which volo label writes, are --data.token-labels"),
    **dict.fromkeys(
        ("name", "project", "run-name", "experiment", "logdir", "log-dir", "default-root-dir"),
        "the folder of the run is --output",
    ),
    **dict.fromkeys(("exist-ok", "overwrite", "force"), "a run is never overwritten; choose another --output"),
    **dict.fromkeys(("config", "cfg", "hyp"), "a file of settings is a recipe: --recipe FILE"),
    **dict.fromkeys(("log", "logger", "report-to", "wandb", "tensorboard", "mlflow"), "loggers are --loggers [wandb]"),
    **dict.fromkeys(("fast-dev-run", "dry"), "a trial of three batches is --dry-run"),
    **dict.fromkeys(("save-period", "save-steps", "save-freq", "checkpoint-hist", "recovery-interval"), _KEPT),
    # What there is not, or not as a setting
    **dict.fromkeys(("patience", "early-stopping", "early-stop", "early-stopping-patience"), _EARLY),
    **dict.fromkeys(("num-classes", "nc", "classes-count"), "the classes are counted in the data"),
    **dict.fromkeys(
        ("clip-grad", "gradient-clip-val", "clip", "max-grad-norm", "clipnorm"),
        "there is no clipping of gradients; a loss that is not finite ends the run and names the images",
    ),
    **dict.fromkeys(("deterministic", "shuffle"), "every run is shuffled and repeatable: the draws depend on --seed"),
    **dict.fromkeys(("mosaic", "copy-paste", "vflip", "flipud"), "there is no such augmentation; --help-all lists all"),
    **dict.fromkeys(("freeze-epochs", "unfreeze"), "the frozen part does not change in a run; see --model.freeze"),
    **dict.fromkeys(("eval-metric", "monitor"), "the best epoch is that of the highest top-1, or mean IoU"),
    **dict.fromkeys(("plots", "callbacks"), "all plots are always drawn, and there are no callbacks"),
    **dict.fromkeys(("cache",), "images are read anew in each epoch, by --workers processes"),
}


def find_hint(option: str, hints: Mapping[str, str], *, options: Collection[str], usage: str) -> str | None:
    """Return the answer to a wrong option, or None if there is none that is true for the verb.

    Args:
        option: as it was typed, without its dashes; with dashes in the place of underscores.
        hints: the answers by wrong option. An answer applies if the verb has all the options that it names, and in its
            usage all the arguments in capital letters.
        options: all options of the verb, with dashes.
        usage: of the verb.
    """
    answer = hints.get(option.lower())
    if answer is None or not set(re.findall(r"--[\w.-]*\w", answer)) <= set(options):
        return None
    arguments = re.findall(r"^[A-Z]+\b", answer)
    return answer if set(arguments) <= set(re.findall(r"[A-Z]+", usage)) else None
