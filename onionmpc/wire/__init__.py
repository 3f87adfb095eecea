"""What goes over a stream: Noise, frames and the link. Bytes in, events out."""
