// What a test asks: numbers of the connection, the sound of a participant, the colours of a picture.

/** Everything that can be said about a call now, in plain numbers and words. */
export async function summary(call) {
  const { negotiation } = call;
  if (!negotiation) return { state: "new", incoming: [], outgoing: [] };
  const stats = new Map(await negotiation.connection.getStats());
  return {
    state: negotiation.connection.connectionState,
    path: path(stats),
    negotiation: { ...negotiation.counts, failures: [...negotiation.failures] },
    channel: { pings: negotiation.channel.pings, pongs: negotiation.channel.pongs },
    incoming: await Promise.all(negotiation.incoming().map(received)),
    outgoing: outgoing(stats),
  };
}

/** Loss, round trip and jitter as clients report them to the server. */
export async function networkReport(call) {
  const remote = [...(await call.negotiation.connection.getStats()).values()]
    .filter(({ type }) => type === "remote-inbound-rtp");
  const mean = (name) => remote.reduce((sum, one) => sum + (one[name] ?? 0), 0) / (remote.length || 1);
  return { lossRate: mean("fractionLost"), roundTripTimeS: mean("roundTripTime"), jitterS: mean("jitter") };
}

function path(stats) {
  const transport = [...stats.values()].find(({ type }) => type === "transport");
  const pair = stats.get(transport?.selectedCandidatePairId);
  if (!pair) return null;
  const local = stats.get(pair.localCandidateId);
  const remote = stats.get(pair.remoteCandidateId);
  return {
    protocol: local.protocol,
    local: local.candidateType,
    remote: remote.candidateType,
    remotePort: remote.port,
    roundTripTimeS: pair.currentRoundTripTime ?? null,
    dtls: transport.dtlsState,
    srtp: transport.srtpCipher,
  };
}

async function received({ mid, kind, type, sessionId, receiver }) {
  const stats = new Map(await receiver.getStats());
  const rtp = [...stats.values()].find((one) => one.type === "inbound-rtp") ?? {};
  const codec = stats.get(rtp.codecId)?.mimeType ?? "";
  const wanted = kind === "video"
    ? ["framesReceived", "framesDecoded", "framesDropped", "keyFramesDecoded", "frameWidth", "frameHeight",
      "framesPerSecond", "freezeCount", "totalFreezesDuration", "pliCount", "nackCount"]
    : ["audioLevel", "totalAudioEnergy", "totalSamplesDuration", "concealedSamples", "concealmentEvents"];
  const common = ["ssrc", "packetsReceived", "packetsLost", "jitter", "jitterBufferDelay", "jitterBufferEmittedCount"];
  const numbers = Object.fromEntries([...common, ...wanted].map((name) => [name, rtp[name] ?? 0]));
  return { mid, kind, type, sessionId, codec, ...numbers };
}

function outgoing(stats) {
  return [...stats.values()].filter(({ type }) => type === "outbound-rtp").map((rtp) => ({
    mid: rtp.mid,
    kind: rtp.kind,
    rid: rtp.rid ?? "",
    codec: stats.get(rtp.codecId)?.mimeType ?? "",
    active: rtp.active ?? true,
    packetsSent: rtp.packetsSent,
    bytesSent: rtp.bytesSent,
    framesEncoded: rtp.framesEncoded ?? 0,
    keyFramesEncoded: rtp.keyFramesEncoded ?? 0,
    frameWidth: rtp.frameWidth ?? 0,
    framesPerSecond: rtp.framesPerSecond ?? 0,
    pliCount: rtp.pliCount ?? 0,
    nackCount: rtp.nackCount ?? 0,
  }));
}

/** Listens to a track for a while: the strongest frequency in Hz and how loud it was at most (0…1). */
export async function listen(track, durationMs) {
  const context = new AudioContext({ sampleRate: 48000 });
  await context.resume();
  const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
  new MediaStreamAudioSourceNode(context, { mediaStream: new MediaStream([track]) }).connect(analyser);
  const spectrum = new Float32Array(analyser.frequencyBinCount);
  let best = { hz: 0, level: 0 };
  const endMs = performance.now() + durationMs;
  while (performance.now() < endMs) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    analyser.getFloatFrequencyData(spectrum);
    const bin = spectrum.reduce((top, level, index) => (level > spectrum[top] ? index : top), 0);
    const level = 10 ** (spectrum[bin] / 20);
    if (level > best.level) best = { hz: (bin * context.sampleRate) / analyser.fftSize, level };
  }
  await context.close();
  return best;
}

/** The colour in the middle of what a video element shows, as [red, green, blue]; null without a picture. */
export function colourOf(video) {
  if (!video?.videoWidth) return null;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: 1, height: 1 });
  const pen = canvas.getContext("2d");
  pen.drawImage(video, video.videoWidth / 2, video.videoHeight / 2, 1, 1, 0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
