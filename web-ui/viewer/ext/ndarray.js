// Views of arrays for the package ndarray in OHIF's build, which makes such classes from text by `new Function`. The
// content security policy of the page allows no code from text, and segmentations could not be read without these.

class NdarrayView {
  constructor(dtype, data, shape, stride, offset) {
    Object.assign(this, { dtype, data, shape: Array.from(shape), stride: Array.from(stride), offset: offset | 0 });
  }

  get dimension() {
    return this.shape.length;
  }

  get size() {
    return this.shape.reduce((product, length) => product * length, 1);
  }

  /** The axes, the one with the smallest steps first. */
  get order() {
    const axes = this.shape.map((_, axis) => axis);
    return axes.sort((a, b) => Math.abs(this.stride[a]) - Math.abs(this.stride[b]));
  }

  index(...at) {
    return this.stride.reduce((sum, step, axis) => sum + step * at[axis], this.offset);
  }

  get(...at) {
    const index = this.index(...at);
    return this.dtype === 'generic' ? this.data.get(index) : this.data[index];
  }

  set(...values) {
    const value = values[this.dimension];
    const index = this.index(...values);
    return this.dtype === 'generic' ? this.data.set(index, value) : (this.data[index] = value);
  }

  valueOf() {
    return this.dimension ? this : this.get();
  }

  with(shape, stride, offset) {
    return new NdarrayView(this.dtype, this.data, shape, stride, offset);
  }

  hi(...ends) {
    const shape = this.shape.map((length, axis) => (ends[axis] >= 0 ? ends[axis] | 0 : length));
    return this.with(shape, this.stride, this.offset);
  }

  lo(...starts) {
    const first = this.shape.map((_, axis) => (starts[axis] >= 0 ? starts[axis] | 0 : 0));
    const shape = this.shape.map((length, axis) => length - first[axis]);
    return this.with(shape, this.stride, this.index(...first));
  }

  step(...steps) {
    let { offset } = this;
    const by = this.shape.map((_, axis) => (typeof steps[axis] === 'number' ? steps[axis] | 0 : 1));
    by.forEach((step, axis) => {
      if (step < 0) offset += this.stride[axis] * (this.shape[axis] - 1);
    });
    const shape = this.shape.map((length, axis) => Math.ceil(length / Math.abs(by[axis])));
    return this.with(shape, this.stride.map((stride, axis) => stride * by[axis]), offset);
  }

  transpose(...axes) {
    const from = this.shape.map((_, axis) => (axes[axis] === undefined ? axis : axes[axis] | 0));
    return this.with(from.map(axis => this.shape[axis]), from.map(axis => this.stride[axis]), this.offset);
  }

  /** What is left when some axes are held at one place. */
  pick(...at) {
    const free = this.shape.map((_, axis) => axis).filter(axis => !(at[axis] >= 0));
    const offset = this.index(...this.shape.map((_, axis) => (at[axis] >= 0 ? at[axis] : 0)));
    return this.with(free.map(axis => this.shape[axis]), free.map(axis => this.stride[axis]), offset);
  }
}

/** The view of nothing: ndarray() without data. */
class Nothing extends NdarrayView {
  constructor(dtype, data) {
    super(dtype, data, [], [], 0);
  }

  get dimension() {
    return -1;
  }

  get size() {
    return 0;
  }

  index() {
    return -1;
  }

  get() {}

  set() {}

  pick() {
    return null;
  }
}

// What build_viewer.py makes ndarray ask for, instead of compiling a class for each type and number of dimensions.
globalThis.dicomnetNdarrayView = (dtype, dimension) => (data, shape, stride, offset) => {
  if (dimension < 0) return new Nothing(dtype, data);
  return dimension ? new NdarrayView(dtype, data, shape, stride, offset) : new NdarrayView(dtype, data, [], [], offset);
};
