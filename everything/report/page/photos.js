const index = JSON.parse(document.getElementById("index").textContent);
const { photos, folders, stages } = index;
const palette = index.palette.match(/.{6}/g).map((hex) => parseInt(hex, 16));
const $ = (id) => document.getElementById(id);

// Everything that comes from files is put in as text, never as markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}
function drawing(tag, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const padded = (n) => String(n).padStart(6, "0");
// A path that is cut off at its beginning where there is no room: its end is what tells photos apart.
const path = (name) => make("bdi", { dir: "ltr", textContent: name });
const number = (n) => n.toLocaleString("en");
const css = (colour) => `#${palette[colour % palette.length].toString(16).padStart(6, "0")}`;
