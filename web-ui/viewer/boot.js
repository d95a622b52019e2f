// What OHIF's own page says inline: where the application is, and how it loads modules. A file, so that the content
// security policy needs no 'unsafe-inline' for scripts.
window.PUBLIC_URL = '@BASE@';
function browserImportFunction(name) {
  return import(name);
}
