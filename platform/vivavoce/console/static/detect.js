// Without this script the page works all the same: it adds dropping a file, and says that work is under way.
"use strict";
const drop = document.getElementById("drop");
const input = document.getElementById("file");
const state = document.getElementById("state");
const form = document.getElementById("detect");

document.getElementById("hint").prepend("Or drop it here. ");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  drop.addEventListener(kind, () => drop.classList.remove("over"));
}
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) {
    input.files = event.dataTransfer.files;
    state.textContent = `${input.files[0].name} is chosen.`;
  }
});
form.addEventListener("submit", () => {
  form.querySelector("button").disabled = true;
  state.textContent = "Listening…";
});
addEventListener("pageshow", () => {
  form.querySelector("button").disabled = false;
  state.textContent = "";
});
