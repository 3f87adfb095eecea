"""The protocol on a stream, without I/O: Noise handshake, records, frames and the link. Bytes in, events out."""
