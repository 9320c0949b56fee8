"""TCP's connection machine."""

from refmodel.tcp import machine as machine
