// A voice for those who want to see captions without a model that knows theirs: the testbed's own sentences, one after another.

const PAUSE_MS = 2500;

/** A stream that says a sentence every few seconds until its track is stopped. */
export async function sampleVoice() {
  const names = await (await fetch("/testbed/speech")).json();
  const context = new AudioContext({ sampleRate: 48000 });
  await context.resume();
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
  // Held, or a silent voice sends no packets at all.
  const floor = new ConstantSourceNode(context, { offset: 0 });
  floor.connect(out);
  floor.start();
  const [track] = out.stream.getAudioTracks();
  const stop = track.stop.bind(track);
  let ended = false;
  track.stop = () => {
    if (ended) return;
    ended = true;
    stop();
    context.close();
  };
  const talk = async () => {
    for (let n = 0; !ended; n = (n + 1) % names.length) {
      const clip = await (await fetch(`/testbed/speech/${names[n]}`)).arrayBuffer();
      const buffer = await context.decodeAudioData(clip);
      const source = new AudioBufferSourceNode(context, { buffer });
      source.connect(out);
      source.start();
      await new Promise((resolve) => setTimeout(resolve, buffer.duration * 1000 + PAUSE_MS));
    }
  };
  talk().catch((error) => {
    if (!ended) throw error;
  });
  return out.stream;
}
