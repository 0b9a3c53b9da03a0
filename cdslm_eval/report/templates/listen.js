"use strict";
// one shared key at a time, played from the keyboard; without scripts all keys lie below each other
{
  const takes = [...document.querySelectorAll("#takes .take")], status = document.getElementById("take-status");
  let at = 0;

  function pauseAll(but) {
    for (const audio of document.querySelectorAll("audio")) if (audio !== but) audio.pause();
  }

  function show(number) {
    at = (number + takes.length) % takes.length;
    pauseAll(null);
    for (const [index, take] of takes.entries()) take.hidden = index !== at;
    status.textContent = "Key " + (at + 1) + " of " + takes.length;
  }

  function play(number) {
    const audio = takes[at].querySelectorAll("audio")[number];
    if (!audio) return;
    if (!audio.paused) { audio.pause(); return; }
    pauseAll(audio);
    audio.currentTime = 0;
    audio.play();
  }

  document.addEventListener("play", (event) => pauseAll(event.target), true);
  document.getElementById("take-back").addEventListener("click", () => show(at - 1));
  document.getElementById("take-on").addEventListener("click", () => show(at + 1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|TEXTAREA|SELECT|AUDIO)$/.test(event.target.tagName)) return;
    if (event.key === "n") show(at + 1);
    else if (event.key === "p") show(at - 1);
    else if (event.key === "0") pauseAll(null);
    else if (/^[1-9]$/.test(event.key)) play(Number(event.key) - 1);
    else return;
    event.preventDefault();
  });
  document.getElementById("take-tools").hidden = false;
  show(0);
}
