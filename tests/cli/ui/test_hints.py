"""Answers to options of other tools: each is true for the verb that gives it."""

import importlib
import re

import pytest

from volo.cli import MODULES
from volo.cli.management import weights
from volo.cli.training import train
from volo.cli.ui.hints import EVERYWHERE, TRAIN, find_hint
from volo.cli.ui.parser import parse

#: Words of a command → its parser.
PARSERS = {
    "train": train.full_parser(),
    **{f"weights {action}": weights.parser(action) for action in weights.ACTIONS},
    **{
        verb: importlib.import_module(module).parser()
        for verb, module in MODULES.items()
        if verb not in ("train", "weights")
    },
}


def options(parser):
    own = {option.replace("_", "-") for action in parser._actions for option in action.option_strings}
    return {*own, *parser.synonyms, "--debug"}


def answers(parser):
    known, usage = options(parser), str(parser.usage)
    found = {word: find_hint(word, parser.hints, options=known, usage=usage) for word in parser.hints}
    return {word: answer for word, answer in found.items() if answer}


@pytest.mark.parametrize("verb", PARSERS)
def test_answers_name_options_of_the_verb(verb):
    parser = PARSERS[verb]
    for answer in answers(parser).values():
        assert set(re.findall(r"--[a-z.-]*[a-z]", answer)) <= options(parser), answer
        for argument in ("DATA", "MODEL", "IMAGE"):
            assert argument not in answer.split() or argument in parser.usage, answer


def test_every_answer_of_train_is_given():
    assert answers(PARSERS["train"]).keys() >= TRAIN.keys()
    assert not {f"--{word}" for word in TRAIN} & options(PARSERS["train"])


def test_every_other_answer_is_given_by_a_verb():
    given = {word for parser in PARSERS.values() for word in answers(parser)}
    assert given >= EVERYWHERE.keys()


def test_values_in_the_answers_of_train_are_accepted():
    parser = PARSERS["train"]
    given = {
        pair
        for answer in answers(parser).values()
        for pair in re.findall(r"(--[\w.-]+) (true|fp16|bf16|gpu|cpu)", answer)
    }
    assert len(given) > 5
    for option, value in given:
        assert parse(parser, ["photos", f"{option}={value}"])
