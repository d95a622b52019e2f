// dicomnet's extension of OHIF, loaded while it starts (app-config.js): slabs in true millimetres, surfaces, presets.
// A plain module: what the browser loads is what is written here.
import { isosurface, ply } from './isosurface.js';

const CONTEXT = 'CORNERSTONE';
const SURFACE = { ambient: 0.15, diffuse: 0.85, specular: 0.25, specularPower: 20 };
const SURFACES = {
  bone: { level: 300, color: [230, 200, 160] },
  skin: { level: -300, color: [225, 180, 160] },
};
// More triangles than this are too slow to turn; the surface is taken from every second grid point, then every third ...
const MAXIMUM_CELLS = 16_000_000;

// Larger volumes are meshed by the server, in seconds: the browser would stand still for a minute.
const MAXIMUM_LOCAL_CELLS = 8_000_000;
const SERIES_OF_IMAGE = /^wadors:(.*\/studies\/[^/]+\/series\/[^/]+)\//;

const cornerstone = () => window.cornerstone;

/** The step between grid points that keeps a volume of these dimensions within MAXIMUM_CELLS. */
function stepFor(dims) {
  return Math.max(1, Math.ceil(Math.cbrt((dims[0] * dims[1] * dims[2]) / MAXIMUM_CELLS)));
}

function commands(services) {
  const viewport = id =>
    services.cornerstoneViewportService.getCornerstoneViewport(
      id ?? services.viewportGridService.getActiveViewportId()
    );
  const problem = message =>
    services.uiNotificationService.show({ title: 'dicomnet', message, type: 'warning' });

  /** A slab of `thickness` millimetres in all, projected as `blend` says; 0 takes it away. */
  function slab({ blend = 'MAXIMUM_INTENSITY_BLEND', thickness = 20, viewportId }) {
    const view = viewport(viewportId);
    if (!view?.setSlabThickness) return problem('A slab needs a volume: choose MPR first.');
    const modes = cornerstone().Enums.BlendModes;
    if (thickness > 0) {
      view.setBlendMode(modes[blend]);
      // Cornerstone clips at the focal point ± what it is told: the slab that it draws is twice the number.
      view.setSlabThickness(thickness / 2);
    } else {
      view.setBlendMode(modes.COMPOSITE);
      view.resetSlabThickness();
    }
    view.render();
  }

  /** The whole volume of a 3D viewport by its brightest voxels. */
  function projection({ viewportId }) {
    const view = viewport(viewportId);
    if (view?.type !== 'volume3d') return problem('This projection needs a 3D viewport: choose a 3D layout first.');
    view.setBlendMode(cornerstone().Enums.BlendModes.MAXIMUM_INTENSITY_BLEND);
    view.render();
  }

  /**
   * Show the surface at `level` (HU in CT) in place of the volume; returns how many triangles it has, and who made it.
   * `by` is 'server' or 'browser'; by default the volume's size decides.
   */
  async function surface({ level, color, step, viewportId, by }) {
    const view = viewport(viewportId);
    if (view?.type !== 'volume3d') return problem('A surface needs a 3D viewport: choose a 3D layout first.');
    const volume = cornerstone().cache.getVolume(view.getAllVolumeIds()[0]);
    if (!volume?.loadStatus?.loaded) return problem('The volume is not loaded yet. Try again in a moment.');
    const [columns, rows, slices] = volume.dimensions;
    const wanted = by ?? (columns * rows * slices > MAXIMUM_LOCAL_CELLS ? 'server' : 'browser');
    const made = (wanted === 'server' && (await fetched(volume, level))) || meshed(volume, level, step);
    if (!made.triangles) return problem(`No voxel reaches ${level}.`);
    const geometry = await loaded(made.file, color);
    for (const { actor } of view.getActors()) actor.setVisibility(false);
    geometry.actors.forEach((actor, number) => {
      shade(actor.getProperty());
      view.addActor({ uid: `surface-${crypto.randomUUID?.() ?? performance.now()}-${number}`, actor });
    });
    view.render();
    return { triangles: made.triangles, by: made.by };
  }

  return { dicomnetSlab: slab, dicomnetProjection: projection, dicomnetSurface: surface };
}

/** The surface of a volume, made here. */
function meshed(volume, level, step) {
  const mesh = isosurface({
    data: volume.voxelManager.getCompleteScalarDataArray(),
    dims: volume.dimensions,
    origin: volume.origin,
    spacing: volume.spacing,
    direction: volume.direction,
    level,
    step: step ?? stepFor(volume.dimensions),
  });
  return { file: ply(mesh), triangles: mesh.triangles.length, by: 'browser' };
}

/** The surface of a volume, made by the server; nothing where it cannot, as of a series that is more than one volume. */
async function fetched(volume, level) {
  const series = SERIES_OF_IMAGE.exec(volume.imageIds?.[0] ?? '')?.[1];
  if (!series) return undefined;
  const answer = await fetch(`${series}/surface?level=${level}`);
  if (!answer.ok) return undefined;
  const file = await answer.arrayBuffer();
  const header = new TextDecoder('latin1').decode(file.slice(0, 512));
  return { file, triangles: Number(/element face (\d+)/.exec(header)[1]), by: 'server' };
}

/** A mesh in PLY, through Cornerstone's own loader, which wants an address to read from. */
async function loaded(file, color) {
  const { Enums, cornerstoneMeshLoader, geometryLoader } = { ...cornerstone() };
  const url = URL.createObjectURL(new Blob([file]));
  const id = `mesh:${url}`;
  try {
    geometryLoader.registerGeometryLoader('mesh', cornerstoneMeshLoader);
    const geometry = await geometryLoader.loadAndCacheGeometry(id, {
      type: Enums.GeometryType.MESH,
      geometryData: { id, format: Enums.MeshType.PLY, color },
    });
    return geometry.data ?? geometry;
  } finally {
    URL.revokeObjectURL(url);
  }
}

function shade(property) {
  property.setAmbient(SURFACE.ambient);
  property.setDiffuse(SURFACE.diffuse);
  property.setSpecular(SURFACE.specular);
  property.setSpecularPower(SURFACE.specularPower);
  property.setInterpolationToPhong?.();
}

function button(id, icon, label, commandName, commandOptions) {
  return {
    id,
    uiType: 'ohif.toolButton',
    props: {
      type: 'action',
      icon,
      label,
      tooltip: label,
      commands: { commandName, commandOptions, context: CONTEXT },
      evaluate: 'evaluate.action',
    },
  };
}

const BUTTONS = [
  button('dicomnetMip', 'tool-stack-scroll', 'MIP slab, 20 mm', 'dicomnetSlab', { thickness: 20 }),
  button('dicomnetMinip', 'tool-stack-scroll', 'MinIP slab, 10 mm', 'dicomnetSlab', {
    thickness: 10,
    blend: 'MINIMUM_INTENSITY_BLEND',
  }),
  button('dicomnetThin', 'tool-reset', 'No slab', 'dicomnetSlab', { thickness: 0 }),
  button('dicomnetProjection', 'VolumeRendering', '3D MIP', 'dicomnetProjection', {}),
  button('dicomnetBone', 'VolumeRendering', 'Surface: bone (300 HU)', 'dicomnetSurface', SURFACES.bone),
  button('dicomnetSkin', 'VolumeRendering', 'Surface: skin (−300 HU)', 'dicomnetSurface', SURFACES.skin),
];

/** One plane of the layout of MIP slabs; its window follows the others'. */
function plane(orientation, thickness) {
  return {
    viewportOptions: {
      viewportId: `dicomnet-${orientation}`,
      toolGroupId: 'mpr',
      viewportType: 'volume',
      orientation,
      initialImageOptions: { preset: 'middle' },
      syncGroups: [{ type: 'voi', id: 'mpr', source: true, target: true }],
    },
    displaySets: [{ id: 'volume', options: { blendMode: 'MIP', slabThickness: thickness / 2 } }],
  };
}

const MIP_SLABS = {
  id: 'dicomnetMipSlabs',
  name: 'MIP slabs, 40 mm',
  locked: true,
  isPreset: true,
  icon: 'layout-advanced-mpr',
  protocolMatchingRules: [],
  imageLoadStrategy: 'nth',
  displaySetSelectors: {
    volume: {
      seriesMatchingRules: [
        { weight: 1, attribute: 'isReconstructable', constraint: { equals: { value: true } }, required: true },
      ],
    },
  },
  stages: [
    {
      id: 'planes',
      name: 'planes',
      viewportStructure: { layoutType: 'grid', properties: { rows: 1, columns: 3 } },
      viewports: ['axial', 'sagittal', 'coronal'].map(orientation => plane(orientation, 40)),
    },
  ],
};

export default {
  id: '@dicomnet/extension',
  getCommandsModule({ servicesManager }) {
    const definitions = Object.entries(commands(servicesManager.services)).map(([name, commandFn]) => [
      name,
      { commandFn },
    ]);
    return { defaultContext: CONTEXT, definitions: Object.fromEntries(definitions) };
  },
  getHangingProtocolModule() {
    return [{ name: MIP_SLABS.id, protocol: MIP_SLABS }];
  },
  getCustomizationModule() {
    return [
      {
        name: 'global',
        value: {
          'cornerstone.toolbarButtons': { $push: BUTTONS },
          'cornerstone.toolbarSections': { primary: { $push: BUTTONS.map(({ id }) => id) } },
        },
      },
    ];
  },
};
