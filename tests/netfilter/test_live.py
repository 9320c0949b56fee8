"""The model's router against the running kernel's."""

import re
import subprocess
import sys

import pytest

from conformance.differential.netfilter_live import missing


@pytest.mark.live
@pytest.mark.parametrize(("flavour", "seed"), [("legacy", 11), ("nft", 12)])
def test_kernel_does_what_the_model_does(flavour: str, seed: int) -> None:
    if lack := missing():
        pytest.skip(lack)
    command = [sys.executable, "-m", "conformance.differential.netfilter", "--n", "12", "--seed", str(seed)]
    done = subprocess.run([*command, "--flavour", flavour], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"12 rulesets .* 0 differences", done.stdout)
