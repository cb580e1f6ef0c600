"""Two small sound fonts of ASCII, as the bytes of their files."""

HEX = b"".join(b"%04X:%s\n" % (code, b"0f" * 16) for code in range(0x20, 0x7F))

_GLYPH = "STARTCHAR c{0}\nENCODING {0}\nSWIDTH 500 0\nDWIDTH 8 0\nBBX 8 16 0 -2\nBITMAP\n" + "7E\n" * 16 + "ENDCHAR\n"
BDF = (
    "STARTFONT 2.1\nFONT -t-t-medium-r-normal--16-160-75-75-c-80-iso10646-1\nSIZE 16 75 75\nFONTBOUNDINGBOX 8 16 0 -2\n"
    'STARTPROPERTIES 4\nCHARSET_REGISTRY "ISO10646"\nCHARSET_ENCODING "1"\nFONT_ASCENT 14\nFONT_DESCENT 2\n'
    "ENDPROPERTIES\nCHARS 95\n" + "".join(_GLYPH.format(code) for code in range(0x20, 0x7F)) + "ENDFONT\n"
).encode()
