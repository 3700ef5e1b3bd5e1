// The part of MessagePack that calls need: https://github.com/msgpack/msgpack/blob/master/spec.md

const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true });

/** Bytes of one value: null, boolean, number, string, Uint8Array, array, plain object. */
export function pack(value) {
  const parts = [];
  write(value, parts);
  return concat(parts);
}

/** Bytes of several values, one after the other. */
export function concat(parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** All values in `bytes`, in order. Throws RangeError or TypeError for what cannot be read. */
export function unpackAll(bytes) {
  const reader = new Reader(bytes);
  const values = [];
  while (!reader.done) values.push(reader.value());
  return values;
}

function write(value, parts) {
  if (value === null || value === undefined) parts.push(Uint8Array.of(0xc0));
  else if (typeof value === "boolean") parts.push(Uint8Array.of(value ? 0xc3 : 0xc2));
  else if (typeof value === "number") parts.push(number(value));
  else if (typeof value === "string") {
    const bytes = utf8.encode(value);
    parts.push(head(bytes.length, 0xa0, 31, [0xd9, 0xda, 0xdb]), bytes);
  } else if (value instanceof Uint8Array) {
    parts.push(head(value.length, 0, -1, [0xc4, 0xc5, 0xc6]), value);
  } else if (Array.isArray(value)) {
    parts.push(head(value.length, 0x90, 15, [null, 0xdc, 0xdd]));
    for (const item of value) write(item, parts);
  } else {
    const entries = Object.entries(value);
    parts.push(head(entries.length, 0x80, 15, [null, 0xde, 0xdf]));
    for (const [key, item] of entries) {
      write(key, parts);
      write(item, parts);
    }
  }
}

function number(value) {
  if (Number.isInteger(value) && value >= 0 && value < 128) return Uint8Array.of(value);
  const bytes = new Uint8Array(9);
  const view = new DataView(bytes.buffer);
  if (Number.isInteger(value) && value >= 0 && value <= 0xffffffff) {
    bytes[0] = 0xce;
    view.setUint32(1, value);
    return bytes.subarray(0, 5);
  }
  bytes[0] = 0xcb;
  view.setFloat64(1, value);
  return bytes;
}

/** Type byte and length; `sizes` are the type bytes for lengths of 8, 16 and 32 bits. */
function head(length, fixed, fixedMax, sizes) {
  if (length <= fixedMax) return Uint8Array.of(fixed | length);
  if (length < 0x100 && sizes[0] !== null) return Uint8Array.of(sizes[0], length);
  if (length < 0x10000) return Uint8Array.of(sizes[1], length >> 8, length & 0xff);
  const bytes = new Uint8Array(5);
  bytes[0] = sizes[2];
  new DataView(bytes.buffer).setUint32(1, length);
  return bytes;
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  get done() {
    return this.at >= this.bytes.length;
  }

  value() {
    const type = this.take(1, (at) => this.view.getUint8(at));
    if (type < 0x80) return type;
    if (type < 0x90) return this.map(type & 0x0f);
    if (type < 0xa0) return this.list(type & 0x0f);
    if (type < 0xc0) return this.string(type & 0x1f);
    if (type >= 0xe0) return type - 0x100;
    switch (type) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.binary(this.uint(1));
      case 0xc5: return this.binary(this.uint(2));
      case 0xc6: return this.binary(this.uint(4));
      case 0xca: return this.take(4, (at) => this.view.getFloat32(at));
      case 0xcb: return this.take(8, (at) => this.view.getFloat64(at));
      case 0xcc: return this.uint(1);
      case 0xcd: return this.uint(2);
      case 0xce: return this.uint(4);
      case 0xcf: return this.take(8, (at) => Number(this.view.getBigUint64(at)));
      case 0xd0: return this.take(1, (at) => this.view.getInt8(at));
      case 0xd1: return this.take(2, (at) => this.view.getInt16(at));
      case 0xd2: return this.take(4, (at) => this.view.getInt32(at));
      case 0xd3: return this.take(8, (at) => Number(this.view.getBigInt64(at)));
      case 0xd9: return this.string(this.uint(1));
      case 0xda: return this.string(this.uint(2));
      case 0xdb: return this.string(this.uint(4));
      case 0xdc: return this.list(this.uint(2));
      case 0xdd: return this.list(this.uint(4));
      case 0xde: return this.map(this.uint(2));
      case 0xdf: return this.map(this.uint(4));
      default: throw new TypeError(`MessagePack type 0x${type.toString(16)} is not used in calls`);
    }
  }

  take(size, read) {
    const at = this.at;
    if (at + size > this.bytes.length) throw new RangeError("MessagePack data ends too early");
    this.at += size;
    return read(at);
  }

  uint(size) {
    return this.take(size, (at) => {
      if (size === 1) return this.view.getUint8(at);
      return size === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
    });
  }

  binary(length) {
    return this.take(length, (at) => this.bytes.slice(at, at + length));
  }

  string(length) {
    return text.decode(this.binary(length));
  }

  list(length) {
    return Array.from({ length }, () => this.value());
  }

  map(length) {
    const result = {};
    for (let left = length; left > 0; left -= 1) {
      const key = this.value();
      result[key] = this.value();
    }
    return result;
  }
}
