// What the page can only know while it is read: its own address, and the models of the moment.
// Without this script everything else on the page still stands.
"use strict";

const base = location.origin + location.pathname.replace(/\/docs\/?$/, "");
const moods = { ready: "is-ready", failed: "is-failed", starting: "is-waiting", restarting: "is-waiting", stopping: "is-waiting" };

function all(selector, act) {
  document.querySelectorAll(selector).forEach(act);
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

let chosen = "starter";

function choose(model) {
  chosen = model;
  all("[data-model]", (place) => { place.textContent = model; });
  all(".use", (button) => {
    const isChosen = button.dataset.id === model;
    button.setAttribute("aria-pressed", String(isChosen));
    button.textContent = isChosen ? "In use" : "Use";
  });
}

function row(model, state) {
  const line = document.createElement("tr");
  const name = document.createElement("td");
  name.append(element("code", model.id));
  const mood = document.createElement("td");
  mood.append(element("span", "", "dot " + (moods[state] || "")), state || "unknown");
  const use = document.createElement("td");
  const button = element("button", "", "use");
  button.type = "button";
  button.dataset.id = model.id;
  button.addEventListener("click", () => choose(model.id));
  use.append(button);
  line.append(name, mood, element("td", model.owned_by, "from"), use);
  return line;
}

function show(models, health) {
  document.querySelector("#models-table tbody").replaceChildren(
    ...models.map((model) => row(model, health.models[model.id])));
  document.getElementById("models-table").hidden = false;
  document.getElementById("models-note").hidden = true;
  const ids = models.map((model) => model.id);
  choose(ids.includes(chosen) ? chosen : ids[0] || chosen);
  const count = models.length === 1 ? "1 model" : `${models.length} models`;
  const text = health.status === "ok" ? "up" : health.status;
  status(`Inglenook ${health.version} is ${text} with ${count}`, health.status === "ok" ? "is-ready" : "is-waiting");
}

function status(text, mood) {
  document.getElementById("status").className = "pill " + mood;
  document.getElementById("status-text").textContent = text;
}

async function read(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`it answers ${answer.status}`);
  return answer.json();
}

async function refresh() {
  try {
    const [list, health] = await Promise.all([read("v1/models"), read("health")]);
    show(list.data, health);
  } catch (problem) {
    status(problem instanceof TypeError ? "This server cannot be reached" : `This server is up, but ${problem.message}`, "is-failed");
  }
}

function addCopy(code) {
  const frame = element("div", "", "with-copy");
  const button = element("button", "Copy", "copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  code.parentNode.replaceWith(frame);
  frame.append(code.parentNode, button);
}

all("[data-base]", (place) => { place.textContent = base; });
// Browsers offer the clipboard to pages from this machine or over TLS only.
if (navigator.clipboard) all("[id^=sample-]", addCopy);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
