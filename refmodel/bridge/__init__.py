"""The Ethernet bridge: it learns from who sends, forwards to whom it knows, and floods the rest (IEEE 802.1D).

Multicast snooping is off, there is one VLAN, and no spanning tree: ports forward as soon as they are there.
"""

from refmodel.bridge.bridge import Bridge, BridgeEnv, BridgePort
from refmodel.bridge.forward import br_dev_xmit, br_forward
from refmodel.bridge.input import br_handle_frame

__all__ = ["Bridge", "BridgeEnv", "BridgePort", "br_dev_xmit", "br_forward", "br_handle_frame"]
