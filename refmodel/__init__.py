"""refmodel: an executable, proved and kernel-checked reference model of Linux's TCP/IP stack."""

__version__ = "0.1.0"
