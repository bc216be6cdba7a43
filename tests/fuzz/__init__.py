"""Damaged recordings by the thousand, and what inspecting, reading and fitting make of them."""
