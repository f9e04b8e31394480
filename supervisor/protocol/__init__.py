"""What is on the wire, as values: no input or output, no clock, no asyncio."""
