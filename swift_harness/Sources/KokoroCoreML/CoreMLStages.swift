#if canImport(CoreML)
    import CoreML
    import Foundation
    @_exported import KokoroBundle
    @_exported import KokoroSignal
    @_exported import KokoroSynthesis

    /// Opens the functions of a bundle's packages with Core ML.
    ///
    /// A package is compiled once and kept in a folder of its own, named by the SHA-256 of what
    /// the manifest lists of it; another bundle with the same package finds it there.
    public final class CoreMLStages: StageProvider {
        /// What a package may run on.
        public typealias ComputeUnits = @Sendable (Manifest.Package) -> Manifest.ComputeUnits

        private let models: CompiledModels
        private let computeUnits: ComputeUnits

        /// Prepares a bundle; nothing is compiled or loaded yet.
        ///
        /// - Parameters:
        ///   - bundle: the packages.
        ///   - computeUnits: what each package may run on; by itself what the manifest says.
        ///   - precompiled: a folder with `NAME.mlmodelc` for some or all of the packages
        ///     `NAME.mlpackage`, which then are not compiled; nil is the bundle's own folder.
        ///   - cache: folder for what is compiled here; nil is one in the user's caches, which
        ///     the system may empty.
        public init(
            bundle: BundleFolder, computeUnits: @escaping ComputeUnits = { $0.computeUnits },
            precompiled: URL? = nil, cache: URL? = nil
        ) {
            models = CompiledModels(
                bundle: bundle, precompiled: precompiled ?? bundle.url,
                cache: cache ?? Self.defaultCache)
            self.computeUnits = computeUnits
        }

        /// Where compiled packages are kept if nothing else is asked for.
        public static var defaultCache: URL {
            let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask).first
            return (caches ?? FileManager.default.temporaryDirectory)
                .appendingPathComponent("kokoro-coreml/compiled")
        }

        /// Compiles a package, unless it is found compiled.
        ///
        /// - Parameter package: one of the bundle's manifest.
        /// - Returns: the `.mlmodelc`.
        /// - Throws: `KokoroError.package` if Core ML refuses it, or it cannot be kept.
        public func compiled(_ package: Manifest.Package) async throws -> URL {
            try await models.url(of: package)
        }

        /// Loads a function, compiling its package if need be.
        ///
        /// - Parameter place: one of the bundle's manifest.
        /// - Returns: what runs it.
        /// - Throws: `KokoroError.package` if Core ML refuses it, the system is too old for
        ///   packages of several functions, or the model is not what the manifest says.
        public func runner(for place: PackagedFunction) async throws -> any FunctionRunner {
            let url = try await models.url(of: place.package)
            return try await CoreMLRunner(
                place: place, compiled: url, computeUnits: computeUnits(place.package))
        }
    }

    extension KokoroSynthesizer {
        /// Opens a bundle and speaks with Core ML. Nothing is compiled or loaded yet; `prewarm`
        /// does, or the first speech.
        ///
        /// - Parameters:
        ///   - url: folder of the bundle.
        ///   - verifying: whether every file is compared with the manifest, which reads all of
        ///     them. Turn it off where packages were replaced by their `.mlmodelc`.
        ///   - computeUnits: what each package may run on; by itself what the manifest says.
        ///   - cache: folder for what is compiled; nil is one in the user's caches.
        ///   - memory: how many functions stay loaded.
        ///   - onStage: told of every stage that has run.
        /// - Throws: `KokoroError.bundle` if it is no bundle, not what was written, or holds no
        ///   whole network; `.checkpoint` if its vocabulary cannot be read.
        public init(
            bundle url: URL, verifying: Bool = true,
            computeUnits: @escaping CoreMLStages.ComputeUnits = { $0.computeUnits },
            cache: URL? = nil, memory: MemoryPolicy = .keepAll, onStage: StageObserver? = nil
        ) throws {
            let bundle = try BundleFolder(url, verifying: verifying)
            let stages = CoreMLStages(bundle: bundle, computeUnits: computeUnits, cache: cache)
            try self.init(bundle: bundle, stages: stages, memory: memory, onStage: onStage)
        }
    }
#endif
