// OHIF's configuration. The server fills in @BASE@ (where the viewer is, ending in a slash) and @DICOMWEB@.
window.config = {
  name: 'dicomnet',
  routerBasename: '@BASE@',
  extensions: ['@BASE@ext/dicomnet.js'],
  modes: [],
  // OHIF wants its own commands here ($set); plain values are taken for merges.
  customizationService: {
    'ohif.tours': { $set: [] },
    autoCineModalities: { $set: [] },
  },
  showStudyList: true,
  showLoadingIndicator: true,
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false,
  showErrorDetails: 'always',
  investigationalUseDialog: { option: 'never' },
  // Slices at uneven distances are shown as a stack: a volume made of them would have the wrong geometry.
  strictZSpacingForVolumeViewport: true,
  maxNumberOfWebWorkers: 3,
  maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
  defaultDataSourceName: 'dicomweb',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'dicomweb',
      configuration: {
        friendlyName: 'dicomnet archive',
        name: 'dicomnet',
        qidoRoot: '@DICOMWEB@',
        wadoRoot: '@DICOMWEB@',
        wadoUriRoot: '@DICOMWEB@',
        qidoSupportsIncludeField: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        supportsReject: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        dicomUploadEnabled: true,
        // Documents and videos come in one part, as the browser plays them.
        singlepart: 'pdf,video',
        bulkDataURI: { enabled: true, relativeResolution: 'studies' },
      },
    },
  ],
};
