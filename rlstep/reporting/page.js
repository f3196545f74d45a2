"use strict";
// The filter of the rollouts. Without scripts everything is shown.
const form = document.getElementById("filter");
if (form) {
  const rollouts = [...document.querySelectorAll(".rollout")].map((element) => {
    const prompt = element.closest(".prompt");
    const scores = [...element.querySelectorAll("[data-score]")].map((e) => Number(e.dataset.score));
    const problem = prompt.querySelector(".problem").textContent;
    return {
      element,
      prompt,
      text: `${problem}\n${element.textContent}`.toLowerCase(),
      lowest: Math.min(...scores),
    };
  });
  const apply = () => {
    const { text, verdict, iteration, error, lowest } = Object.fromEntries(new FormData(form));
    const wanted = text.toLowerCase();
    const kept = new Set();
    let number = 0;
    for (const { element, prompt, ...rollout } of rollouts) {
      const { dataset } = element;
      const matches =
        rollout.text.includes(wanted) &&
        (!verdict || dataset.verdict === verdict) &&
        (!iteration || dataset.iteration === iteration) &&
        (!error || dataset.error === error) &&
        (lowest === "" || rollout.lowest <= Number(lowest));
      element.hidden = !matches;
      if (matches) {
        number += 1;
        kept.add(prompt);
      }
    }
    const filtered = number < rollouts.length;
    for (const prompt of document.querySelectorAll(".prompt")) {
      prompt.hidden = filtered && !kept.has(prompt);
    }
    document.getElementById("matching").textContent = `${number} of ${rollouts.length} rollouts`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}
