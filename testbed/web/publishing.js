// How the own tracks are offered: codecs, encodings and sections as the web client chooses them.

const PLAIN = [{ maxBitrate: 1_000_000, maxFramerate: 10 }];
const SIMULCAST = [
  { rid: "l", maxBitrate: 500_000, maxFramerate: 5, scaleResolutionDownBy: 1 },
  { rid: "h", maxBitrate: 2_500_000, maxFramerate: 20, scaleResolutionDownBy: 1 },
];

/** One audio section; the browser may take one that the server opened. */
export async function addVoice(negotiation, track) {
  return negotiation.renegotiate((connection) => connection.addTrack(track, new MediaStream([track])));
}

/** Picture and sound of a shared screen; with AV1 the same picture in VP8 too, for those who cannot decode it. */
export async function addScreen(negotiation, stream, { simulcast, av1 }) {
  const [picture] = stream.getVideoTracks();
  const [sound] = stream.getAudioTracks();
  const senders = [];
  if (av1 && !simulcast && canSend("video/AV1")) {
    senders.push(await addVideo(negotiation, picture, stream, { encodings: PLAIN, codec: "video/AV1" }));
  }
  const encodings = simulcast ? SIMULCAST : PLAIN;
  const fallback = senders.length > 0 ? picture.clone() : picture;
  senders.push(await addVideo(negotiation, fallback, stream, { encodings, codec: "video/VP8" }));
  if (sound) senders.push(await negotiation.renegotiate((connection) => connection.addTrack(sound, stream)));
  return senders;
}

/** Whether this build can encode it. */
export function canSend(mimeType) {
  return codecs("video", mimeType).length > 0;
}

function addVideo(negotiation, track, stream, { encodings, codec }) {
  return negotiation.renegotiate((connection) => {
    const transceiver = connection.addTransceiver(track, {
      direction: "sendrecv",
      streams: [stream],
      sendEncodings: encodings,
    });
    transceiver.setCodecPreferences(codecs("video", codec));
    return transceiver.sender;
  });
}

function codecs(kind, mimeType) {
  return RTCRtpSender.getCapabilities(kind).codecs.filter((codec) => codec.mimeType === mimeType);
}
