"""The medium: machines csma_cd, pause and irq_delay, frames with their check sequence, and how long they take.

`frame` is what the medium carries, `link` a full duplex port in virtual time. `csma` is a station on a shared medium,
`pause` full duplex flow control, `moderation` the card's own delay of interrupts; these three are proved.
"""

from refmodel.phy import csma, csma_properties, frame, link, moderation, pause

__all__ = ["csma", "csma_properties", "frame", "link", "moderation", "pause"]
