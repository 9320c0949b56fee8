"""Imports every layer, which fills the registry, in the order in which a reader would take them."""

import refmodel.tcp
