/** What a view of the smoke test shows, in place of a page: waits until it shows what it should. */
export class Shown<Value> {
  private latest: Value | undefined;
  private onShow: () => void = () => undefined;

  readonly show = (value: Value): void => {
    this.latest = value;
    this.onShow();
  };

  /** The value that the view shows, as soon as `holds`. Rejects after a minute. */
  until(holds: (value: Value) => boolean, what: string): Promise<Value> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not within 60 s: ${what}`)), 60_000);
      this.onShow = () => {
        if (this.latest === undefined || !holds(this.latest)) return;
        clearTimeout(timer);
        this.onShow = () => undefined;
        console.log(`✓ ${what}`);
        resolve(this.latest);
      };
      this.onShow();
    });
  }

  /** Forgets the value, so that `until` waits for the next. */
  forget(): void {
    this.latest = undefined;
  }
}
