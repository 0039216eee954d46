// Records in the browser, shows the level, plays it back, and sends it as WAV: no codec lies between mouth and judge.
"use strict";
const here = location.pathname;
const get = (id) => document.getElementById(id);
const [desk, reading, text, left, level, heard] = ["desk", "reading", "text", "left", "level", "heard"].map(get);
const [problem, state, begin, record, send] = ["problem", "state", "begin", "record", "send"].map(get);
let challenge = null;
let recorder = null;
let wav = null;
let deadline = 0;

desk.hidden = false;

function say(words, wrong = "") {
  state.textContent = words;
  problem.textContent = wrong;
  problem.hidden = !wrong;
}

async function ask(path, options) {
  const answer = await fetch(here + path, options);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || body.title);
  return body;
}

begin.addEventListener("click", async () => {
  try {
    const drawn = await ask("/challenge", { method: "POST" });
    challenge = drawn.challenge;
    text.textContent = drawn.text;
    text.lang = drawn.language;
    deadline = Date.now() + 10 * 60 * 1000;
    reading.hidden = record.hidden = false;
    begin.hidden = heard.hidden = send.hidden = true;
    record.textContent = "Record";
    say("");
  } catch (error) {
    say("", error.message);
  }
});

setInterval(() => {
  const seconds = Math.max(0, Math.round((deadline - Date.now()) / 1000));
  left.textContent = deadline ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left` : "";
}, 1000);

record.addEventListener("click", async () => {
  if (recorder) {
    recorder.stop();
    return;
  }
  try {
    await start();
    record.textContent = "Stop";
    heard.hidden = send.hidden = true;
    say("Recording. Read the text aloud, then stop.");
  } catch (error) {
    say("", `The microphone cannot be used: ${error.message}`);
  }
});

async function start() {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  const meter = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(meter);
  const samples = new Float32Array(meter.fftSize);
  const ticking = setInterval(() => {
    meter.getFloatTimeDomainData(samples);
    level.value = Math.max(...samples.map(Math.abs));
  }, 80);
  const pieces = [];
  recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  recorder.addEventListener("stop", async () => {
    clearInterval(ticking);
    level.value = 0;
    stream.getTracks().forEach((track) => track.stop());
    recorder = null;
    const sound = await context.decodeAudioData(await new Blob(pieces).arrayBuffer());
    await context.close();
    wav = asWav(sound.getChannelData(0), sound.sampleRate);
    heard.src = URL.createObjectURL(wav);
    heard.hidden = send.hidden = false;
    record.textContent = "Record again";
    say("Listen to it. Then send it, or record again.");
  });
  recorder.start();
}

function asWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  [[16, 16], [24, rate], [28, 2 * rate], [40, 2 * samples.length]].forEach(([at, n]) => view.setUint32(at, n, true));
  [[20, 1], [22, 1], [32, 2], [34, 16]].forEach(([at, n]) => view.setUint16(at, n, true));
  write(36, "data");
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, x)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

send.addEventListener("click", async () => {
  const form = new FormData();
  form.append("challenge", challenge);
  form.append("recording", wav, "read.wav");
  record.hidden = send.hidden = true;
  say("Sending…");
  try {
    await ask("/recording", { method: "POST", body: form });
    say("Listening to your recording…");
    let found = { verdict: null };
    while (found.verdict === null) {
      await new Promise((done) => setTimeout(done, 700));
      found = await ask("/state");
    }
    await finish(found);
  } catch (error) {
    say("", error.message);
    again();
  }
});

function again() {
  reading.hidden = true;
  begin.hidden = false;
  begin.textContent = "Try again with a new text";
}

async function finish(found) {
  if (found.verdict !== "accepted") {
    say("", `Not accepted. ${found.reasons.join(" ")}`);
    again();
    return;
  }
  const own = await ask("/finish", { method: "POST" });
  reading.hidden = true;
  say("Thank you: your consent is in force. Keep this address. With it you see what is made, withdraw, or are erased: ");
  const link = document.createElement("a");
  link.href = own.address;
  link.textContent = location.origin + own.address;
  state.append(link);
}
