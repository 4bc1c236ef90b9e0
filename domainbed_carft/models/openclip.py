"""Loading open_clip's CLIPs, by tag, from a file or from a folder."""

import copy
import functools
import json
import os

from ..base.messages import install, unknown
from . import pretrained, weights

PREFERRED = (  # in the order of open_clip itself
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
)
HUB = "~/.cache/huggingface/hub, or below HF_HOME"


def split(spec):
    """Return (model, tag or path) of "MODEL/TAG" or "MODEL/PATH".

    Raises:
        ValueError: open_clip does not have the model, the model is not supported, or there is
            neither such a tag nor such a file.
    """
    import open_clip

    model, _, tag = spec.partition("/")
    if model not in open_clip.list_models():
        raise ValueError(unknown("open_clip model", model, open_clip.list_models()))
    if "multimodal_cfg" in open_clip.get_model_config(model):
        raise ValueError(
            f"open_clip's {model} returns tokens in addition to features, like CoCa: it cannot be "
            "a clip_backbone"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        tag = os.path.expanduser(tag)
        if not os.path.isfile(tag):
            raise ValueError(unknown(f"weights of open_clip's {model}", tag, [*tags, "a file"]))
    return model, tag


def config(spec):
    """Return the config of the architecture of "MODEL/TAG" or "MODEL/PATH"."""
    import open_clip

    return open_clip.get_model_config(split(spec)[0])


def training_of(spec, given):
    """Return the Training of "MODEL/TAG" or "MODEL/PATH", as far as it is known."""
    import open_clip

    model, tag = split(spec)
    if tag in open_clip.list_pretrained_tags_by_model(model):
        return given.over(pretrained.of_tag(model, tag))
    beside = pretrained.of_folder(os.path.dirname(tag), open_clip.get_model_config(model))
    return given.over(beside).over(pretrained.of_architecture(model))


def load(spec, given):
    """Return (model in fp32, tokenize, Training) of "MODEL/TAG" or "MODEL/PATH".

    Args:
        spec: the name without "open_clip:".
        given: Training of the knobs, which overrides that of the weights.

    Raises:
        FileNotFoundError: as for :func:`backbones.load`.
        ImportError: as for :func:`backbones.load`.
        ValueError: as for :func:`backbones.load`.
    """
    import open_clip

    model, tag = split(spec)
    config = open_clip.get_model_config(model)
    name = f"open_clip:{spec}"
    training = training_of(spec, given)
    training = pretrained.require(training, name, [model], pretrained.has_activation(config))
    tokenize = _tokenizer(config, name)  # before gigabytes of weights are downloaded
    if tag not in open_clip.list_pretrained_tags_by_model(model):
        return build(config, tag, training), tokenize, training
    quick = training.activation == "quick_gelu"
    try:
        # by default, open_clip only warns if weights need OpenAI's activation
        built = open_clip.create_model(
            model,
            pretrained=tag,
            precision="fp32",
            device="cpu",
            force_quick_gelu=quick,
            quick_gelu=quick,
        )
    except (OSError, RuntimeError) as e:
        raise FileNotFoundError(
            f"The weights {tag} of open_clip's {model} could not be loaded or downloaded "
            f"({type(e).__name__}: {e}). Download them once on a machine with a network, with "
            f"open_clip.create_model({model!r}, pretrained={tag!r}), or give a file: "
            f"clip_backbone=open_clip:{model}/PATH"
        ) from e
    return built.eval(), tokenize, training


def load_folder(folder, name, given):
    """Return (model in fp32, tokenize, Training) of a folder with an open_clip_config.json."""
    config = pretrained.read_json(folder, pretrained.CONFIG)
    if "model_cfg" not in config:
        raise ValueError(f"{os.path.join(folder, pretrained.CONFIG)} has no model_cfg")
    model_cfg = config["model_cfg"]
    if "multimodal_cfg" in model_cfg:
        raise ValueError(
            f"{name} returns tokens in addition to features: it cannot be a clip_backbone"
        )
    training = pretrained.require(given.over(pretrained.of_config(config)), name)
    tokenize = _tokenizer(model_cfg, name, folder)
    return build(model_cfg, weights.only_file(folder, PREFERRED), training), tokenize, training


def training_of_folder(folder):
    """Return the Training in a folder's open_clip_config.json."""
    return pretrained.of_folder(folder)


def build(model_cfg, path, training):
    """Return a model of an open_clip architecture with the weights of a file, in fp32.

    Raises:
        ValueError: the weights do not fit the architecture.
    """
    from open_clip import convert
    from open_clip.model import convert_to_custom_text_state_dict

    model = architecture(model_cfg, training.activation == "quick_gelu")
    if path.endswith(".npz"):  # of Google's big_vision
        convert.load_big_vision_weights(model, path)
        return model.eval()
    tensors, _ = weights.read(path)
    tensors = weights.within(tensors, "visual", path) or tensors
    tensors = convert.convert_state_dict(model, tensors)  # Apple's names of MobileCLIP
    if not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    # a buffer of transformers before 4.31
    tensors.pop("text.transformer.embeddings.position_ids", None)
    if getattr(model, "logit_bias", None) is None:  # of training with SigLIP's loss
        tensors.pop("logit_bias", None)
    weights.fill(model, tensors, path, "this architecture of open_clip")
    return model.eval()


def architecture(model_cfg, quick_gelu):
    """Return a model of an open_clip architecture with random weights.

    Raises:
        ImportError: the text encoder needs transformers, which is not installed.
        FileNotFoundError: the config of the text encoder could not be downloaded.
    """
    from open_clip.model import CLIP, CustomTextCLIP

    config = copy.deepcopy(model_cfg)
    config["quick_gelu"] = quick_gelu
    config["vision_cfg"]["timm_model_pretrained"] = False
    text = config["text_cfg"].get("hf_model_name")
    custom = config.pop("custom_text", False) or bool(text)
    if text:
        config["text_cfg"]["hf_model_pretrained"] = False
    try:
        return (CustomTextCLIP if custom else CLIP)(**config)
    except (RuntimeError, ImportError) as e:
        if text and "transformers" in str(e):
            raise ImportError(
                f"The text encoder {text} needs the package transformers: {install('hf')}"
            ) from e
        raise
    except OSError as e:
        raise FileNotFoundError(
            f"The config.json of the text encoder {text} is not in Hugging Face's cache ({HUB}), "
            f"and could not be downloaded ({_first_line(e)})"
        ) from e


@functools.lru_cache
def _simple_tokenizer(length, settings):
    """Return open_clip's own tokenizer. It is built once per setting, as that takes 0.15 s."""
    from open_clip import tokenizer

    return tokenizer.SimpleTokenizer(context_length=length, **json.loads(settings))


def _tokenizer(model_cfg, name, folder=None):
    """Return the tokenizer that an open_clip architecture was trained with.

    Raises:
        ImportError: the tokenizer needs transformers, which is not installed.
        FileNotFoundError: its files do not exist and could not be downloaded.
        ValueError: the config does not say which tokenizer to use.
    """
    from open_clip import tokenizer

    text = model_cfg["text_cfg"]
    kwargs = dict(text.get("tokenizer_kwargs") or {})
    length = text.get("context_length", 77)
    source = text.get("hf_tokenizer_name")
    if not source:
        if text.get("vocab_size", 49408) != 49408:
            raise ValueError(
                f"{name} has {text['vocab_size']} tokens, but no tokenizer: its config needs "
                "text_cfg.hf_tokenizer_name"
            )
        return _simple_tokenizer(length, json.dumps(kwargs))
    if folder and any(os.path.isfile(os.path.join(folder, f)) for f in TOKENIZER_FILES):
        source = folder
    if mode := text.get("tokenizer_mode"):
        kwargs["tokenizer_mode"] = mode
    try:
        return tokenizer.HFTokenizer(source, context_length=length, **kwargs)
    except ImportError as e:
        raise ImportError(
            f"The texts of {name} need a tokenizer of the package transformers ({_first_line(e)}): "
            f"{install('hf')}"
        ) from e
    except (OSError, ValueError) as e:
        raise FileNotFoundError(
            f"The tokenizer of {name}, {source} ({', '.join(TOKENIZER_FILES)}), is not in Hugging "
            f"Face's cache ({HUB}) and could not be downloaded: {_first_line(e)}. Download it once "
            "on a machine with a network, with "
            f"transformers.AutoTokenizer.from_pretrained({source!r})"
        ) from e


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def _first_line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__
