// How session descriptions travel: zlib of {"type","sdp"} as JSON.

/** `description` to bytes. */
export async function packSdp(description) {
  const json = JSON.stringify({ type: description.type, sdp: description.sdp });
  return through(new CompressionStream("deflate"), new TextEncoder().encode(json));
}

/** Bytes to `{type, sdp}`. Throws when they are not such a description. */
export async function unpackSdp(bytes) {
  const json = await through(new DecompressionStream("deflate"), bytes);
  return JSON.parse(new TextDecoder().decode(json));
}

async function through(transform, bytes) {
  const packed = new Blob([bytes]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(packed).arrayBuffer());
}
