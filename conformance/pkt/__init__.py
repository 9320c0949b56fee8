"""The packetdrill language: lexer, parser, printer, its shell vocabulary and its assertions; nothing is executed."""
