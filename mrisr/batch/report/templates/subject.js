"use strict";

// Puts the chosen volumes at the chosen slice on the two sides of a figure's line.
function arrange(viewer) {
  const chosen = {};
  const titles = {};
  for (const radio of viewer.querySelectorAll("input[data-side]:checked")) {
    chosen[radio.dataset.side] = radio.value;
    titles[radio.dataset.side] = radio.nextElementSibling.textContent;
  }
  const axial = viewer.querySelector('figure[data-plane="axial"]');
  for (const figure of viewer.querySelectorAll("figure.cut")) {
    const position = figure.dataset.position;
    for (const layer of figure.querySelectorAll(".layer")) {
      const here = layer.dataset.position === position;
      for (const side of ["left", "right"]) {
        layer.classList.toggle(side, here && layer.dataset.layer === chosen[side]);
      }
      layer.querySelector("img").alt = `${figure.dataset.plane} cut, ${titles.left} beside ${titles.right}`;
    }
    for (const over of figure.querySelectorAll(".over")) {
      over.classList.toggle("on", over.dataset.position === position);
    }
    for (const side of ["left", "right"]) {
      figure.querySelector(`.tag.${side}`).textContent = titles[side];
    }
    const level = figure.querySelector(".level");
    if (level) {
      const rows = level.dataset.rows.split(" ");
      level.setAttribute("transform", `translate(0 ${rows[axial.dataset.position]})`);
    }
    divide(figure, titles.left);
  }
}

// The line of a figure follows its slider.
function divide(figure, title) {
  const slider = figure.querySelector(".split");
  figure.querySelector(".stage").style.setProperty("--split", `${slider.value}%`);
  slider.setAttribute("aria-valuetext", `${slider.value}% ${title}`);
}

function browse(figure, position) {
  const slider = figure.querySelector(".slice");
  slider.value = position; // the element keeps it within its limits
  figure.dataset.position = slider.value;
  const label = figure.querySelectorAll(".labels li")[Number(slider.value)].textContent;
  figure.querySelector(".where").textContent = label;
  slider.setAttribute("aria-valuetext", label);
}

// A finger or a mouse on the picture moves the line as well; a finger that moves up or down scrolls.
function draggable(figure) {
  const stage = figure.querySelector(".stage");
  const slider = figure.querySelector(".split");
  function follow(event) {
    const box = stage.getBoundingClientRect();
    slider.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    slider.dispatchEvent(new Event("input"));
  }
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });
}

function start(viewer) {
  const again = () => arrange(viewer);
  for (const radio of viewer.querySelectorAll("input[data-side]")) radio.addEventListener("change", again);
  for (const box of viewer.querySelectorAll("input[data-outline]")) {
    const apply = () => viewer.classList.toggle(`no-${box.dataset.outline}`, !box.checked);
    box.addEventListener("change", apply);
    apply();
  }
  const large = viewer.querySelector("input[data-large]");
  large.addEventListener("change", () => viewer.classList.toggle("large", large.checked));
  for (const figure of viewer.querySelectorAll("figure.cut")) {
    draggable(figure);
    figure.querySelector(".split").addEventListener("input", again);
    const slices = figure.querySelector(".slice");
    if (!slices) continue;
    const go = (position) => { browse(figure, position); again(); };
    slices.addEventListener("input", () => go(slices.value));
    for (const button of figure.querySelectorAll("button[data-step]")) {
      button.addEventListener("click", () => go(Number(slices.value) + Number(button.dataset.step)));
    }
  }
  again();
}

document.querySelectorAll(".viewer").forEach(start);
