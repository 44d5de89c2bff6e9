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
            try await models.model(of: package).url
        }

        /// Loads a function, compiling its package if need be, and once more if what the cache
        /// holds of it cannot be loaded.
        ///
        /// - Parameter place: one of the bundle's manifest.
        /// - Returns: what runs it.
        /// - Throws: `KokoroError.package` if Core ML refuses it, the system is too old for
        ///   packages of several functions, or the model is not what the manifest says.
        public func runner(for place: PackagedFunction) async throws -> any FunctionRunner {
            try await CoreMLRunner(place: place, model: model(of: place))
        }

        private func model(of place: PackagedFunction) async throws -> MLModel {
            let configuration = try MLModelConfiguration(
                for: place, computeUnits: computeUnits(place.package))
            let compiled = try await models.model(of: place.package)
            do {
                return try await CoreMLRunner.load(place, from: compiled.url, configuration)
            } catch let error as KokoroError {
                guard let again = try await models.renewed(compiled, of: place.package) else {
                    throw error
                }
                return try await CoreMLRunner.load(place, from: again.url, configuration)
            }
        }
    }

    extension KokoroSynthesizer {
        /// Opens a bundle as the initializer does, but away from the actor that calls: comparing
        /// the files with the manifest reads all of them, which an app's main actor had to wait
        /// for.
        ///
        /// - Parameters:
        ///   - url: folder of the bundle.
        ///   - verifying: whether every file is compared with the manifest.
        ///   - computeUnits: what each package may run on; by itself what the manifest says.
        ///   - cache: folder for what is compiled; nil is one in the user's caches.
        ///   - memory: how many functions stay loaded.
        ///   - onStage: told of every stage that has run.
        /// - Returns: what speaks; nothing is compiled or loaded yet.
        /// - Throws: as the initializer.
        public static func open(
            bundle url: URL, verifying: Bool = true,
            computeUnits: @escaping CoreMLStages.ComputeUnits = { $0.computeUnits },
            cache: URL? = nil, memory: MemoryPolicy = .keepAll, onStage: StageObserver? = nil
        ) async throws -> KokoroSynthesizer {
            try KokoroSynthesizer(
                bundle: url, verifying: verifying, computeUnits: computeUnits, cache: cache,
                memory: memory, onStage: onStage)
        }

        /// Opens a bundle and speaks with Core ML. Nothing is compiled or loaded yet; `prewarm`
        /// does, or the first speech. Who calls waits until the files were compared with the
        /// manifest; `open` does not block the main actor.
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
