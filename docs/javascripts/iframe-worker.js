// Browsers start no worker from a file on the disk. There the search's worker runs in a hidden frame, which is enough for
// it: messages in, messages out, further scripts one after the other.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.body.appendChild(document.createElement("iframe"))
      this.frame.hidden = true
      const scope = this.frame.contentWindow
      const load = src => new Promise((done, failed) => {
        const script = scope.document.createElement("script")
        Object.assign(script, { src, onload: done, onerror: failed })
        scope.document.body.append(script)
      })
      scope.importScripts = (...urls) => urls.reduce((before, src) => before.then(() => load(src)), Promise.resolve())
      scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.ready = load(url)
    }

    postMessage(data) {
      const scope = this.frame.contentWindow
      this.ready.then(() => scope.dispatchEvent(new scope.MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
