"""A passive oracle for TCP: which function of the kernel sent each frame, and which frame no Linux would have sent.

Two half-models an end follow what the tap saw: `Receiver` (what arrived, what is acknowledged and why), `Sender` (what
is out, what was lost, which timer is due). `Life` knows the handshake, the states and resets, `Identity` what every
frame of a stack has in common. A frame that no half-model can explain is refused; a refusal names the hypotheses that
would excuse the frame (an input dropped behind the tap, processed late, a frame lost before the tap), each with its
evidence, and `Connection` follows the frames again under the cheapest of them. What no hypothesis excuses diverges.
"""
