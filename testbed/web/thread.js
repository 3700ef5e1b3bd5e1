// The thread: what the jobs have posted, to be played, read and fetched.

const LOOK_EVERY_MS = 2000;
const TEXTS = {
  custom_calls: "Call",
  custom_calls_recording: "Recording",
  custom_calls_transcription: "Transcript",
};

const shown = new Map();

/** Look at the thread for as long as the page is there. */
export async function watchThread(channelId) {
  let isFirst = true;
  for (;;) {
    try {
      const response = await fetch(`/testbed/posts/${channelId}`);
      if (response.ok) showPosts(await response.json(), { isFirst });
      isFirst = false;
    } catch {
      // The server is away: the next look may find it again.
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

function showPosts(posts, { isFirst }) {
  document.getElementById("thread-empty").hidden = posts.some(({ type }) => type !== "custom_calls");
  for (const post of posts) {
    const known = shown.get(post.post_id);
    const article = known ?? newArticle(post);
    if (!known) {
      shown.set(post.post_id, article);
      document.getElementById("posts").prepend(article);
      const title = TEXTS[post.type];
      if (!isFirst && post.files.length > 0) {
        document.getElementById("thread-news").textContent = `${title} is in the thread`;
      }
    }
    // Captions join a recording's post when the transcript is made: a video that plays goes on.
    for (const caption of post.props.captions ?? []) addTrack(article.querySelector("video"), caption);
    if (post.props.end_at) text(article.querySelector("p"), `ended at ${clock(post.props.end_at)}`);
  }
}

function newArticle(post) {
  const article = document.createElement("article");
  article.dataset.type = post.type;
  const title = document.createElement("h3");
  const time = document.createElement("time");
  time.dateTime = new Date(post.create_at).toISOString();
  text(time, clock(post.create_at));
  text(title, `${TEXTS[post.type] ?? "Post"} `);
  title.append(time);
  const message = document.createElement("p");
  text(message, post.message);
  article.append(title, message);
  if (post.type === "custom_calls_recording") {
    for (const file of post.files) article.append(player(file), download(file, "Download the recording"));
  }
  if (post.type === "custom_calls_transcription") {
    for (const file of post.files) article.append(reader(file), download(file, "Download as text"));
    for (const { file_id: id, language } of post.props.captions ?? []) {
      article.append(download({ id, name: `captions-${language}.vtt` }, "Download as captions (VTT)"));
    }
  }
  return article;
}

function player({ id, name }) {
  const video = document.createElement("video");
  Object.assign(video, { controls: true, preload: "metadata", playsInline: true, src: address(id) });
  video.setAttribute("aria-label", `Recording ${name}`);
  return video;
}

function addTrack(video, { file_id: id, language, title }) {
  const src = address(id);
  if (!video || video.querySelector(`track[src="${src}"]`)) return;
  const track = document.createElement("track");
  Object.assign(track, { kind: "captions", src, srclang: language, label: title || language });
  track.default = !video.querySelector("track");
  video.append(track);
}

function reader({ id }) {
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  const words = document.createElement("pre");
  words.tabIndex = 0; // it scrolls
  text(summary, "Read it here");
  details.append(summary, words);
  details.addEventListener("toggle", async () => {
    if (details.open && !words.textContent) text(words, await (await fetch(address(id))).text());
  });
  return details;
}

function download({ id, name }, label) {
  const line = document.createElement("p");
  const link = document.createElement("a");
  Object.assign(link, { href: address(id), download: name });
  text(link, label);
  line.append(link);
  return line;
}

function address(fileId) {
  return `/testbed/files/${fileId}`;
}

function clock(ms) {
  return new Date(ms).toLocaleTimeString();
}

function text(node, words) {
  if (node.textContent !== words) node.textContent = words;
}
