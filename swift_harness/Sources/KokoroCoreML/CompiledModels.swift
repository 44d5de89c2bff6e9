#if canImport(CoreML)
    import CoreML
    import Foundation
    import KokoroBundle

    /// A `.mlmodelc`.
    struct CompiledModel: Sendable, Equatable {
        let url: URL
        /// Whether it lies in the cache, and not where somebody put it.
        let isKept: Bool
        /// How often it was compiled anew.
        let renewals: Int

        var exists: Bool { FileManager.default.fileExists(atPath: url.path) }
    }

    /// The `.mlmodelc` of each package, compiled once for all who ask at the same time.
    actor CompiledModels {
        private let bundle: BundleFolder
        private let precompiled: URL
        private let cache: URL
        private var tasks: [String: Task<CompiledModel, any Error>] = [:]
        private var renewals: [String: Int] = [:]

        init(bundle: BundleFolder, precompiled: URL, cache: URL) {
            self.bundle = bundle
            self.precompiled = precompiled
            self.cache = cache
        }

        /// The compiled package; made again where the system has removed it.
        ///
        /// - Throws: `KokoroError.package` if it cannot be compiled or kept; another call tries
        ///   again then.
        func model(of package: Manifest.Package) async throws -> CompiledModel {
            if let task = tasks[package.file] {
                let known = await task.result
                if case .success(let model) = known, !model.exists, tasks[package.file] == task {
                    tasks[package.file] = nil
                }
            }
            let task = tasks[package.file] ?? Task { try await find(package) }
            tasks[package.file] = task
            do {
                return try await task.value
            } catch {
                if tasks[package.file] == task { tasks[package.file] = nil }
                throw error
            }
        }

        /// The package compiled anew, since what the cache holds cannot be loaded. That is done
        /// once for all who find it so.
        ///
        /// - Returns: nil if it was not compiled here, or was compiled anew before.
        /// - Throws: as `model(of:)`.
        func renewed(
            _ damaged: CompiledModel, of package: Manifest.Package
        ) async throws -> CompiledModel? {
            guard damaged.isKept, damaged.renewals == 0 else { return nil }
            if let task = tasks[package.file] {
                let known = await task.result
                if case .success(damaged) = known, tasks[package.file] == task {
                    try? FileManager.default.removeItem(at: damaged.url)
                    tasks[package.file] = nil
                    renewals[package.file] = 1
                }
            }
            return try await model(of: package)
        }

        private func find(_ package: Manifest.Package) async throws -> CompiledModel {
            let name = Self.compiledName(package.file)
            let given = CompiledModel(
                url: precompiled.appendingPathComponent(name), isKept: false, renewals: 0)
            if given.exists { return given }
            let folder = cache.appendingPathComponent(Self.digest(package, bundle.manifest))
            let kept = CompiledModel(
                url: folder.appendingPathComponent((name as NSString).lastPathComponent),
                isKept: true, renewals: renewals[package.file] ?? 0)
            if !kept.exists { try await compile(package.file, to: kept.url) }
            return kept
        }

        /// Compiles beside the final place and moves it when it is whole.
        private func compile(_ file: String, to kept: URL) async throws {
            let made: URL
            do {
                made = try await MLModel.compileModel(at: bundle.url.appendingPathComponent(file))
            } catch {
                throw failure(error, at: "compiling '\(file)'")
            }
            do {
                try Self.keep(made, as: kept)
            } catch {
                throw failure(error, at: "keeping '\(file)' compiled in '\(kept.path)'")
            }
        }

        private static func keep(_ made: URL, as kept: URL) throws {
            let folder = kept.deletingLastPathComponent()
            let files = FileManager.default
            try files.createDirectory(at: folder, withIntermediateDirectories: true)
            let partial = folder.appendingPathComponent(".\(UUID().uuidString).partial")
            try files.moveItem(at: made, to: partial)
            do {
                try files.moveItem(at: partial, to: kept)
            } catch {
                try files.removeItem(at: partial)
                // another process may have been quicker
                guard files.fileExists(atPath: kept.path) else { throw error }
            }
        }

        /// The name of a package with another extension.
        private static func compiledName(_ file: String) -> String {
            (file as NSString).deletingPathExtension + ".mlmodelc"
        }

        /// SHA-256 of a package: of its files' paths and digests, sorted by code points.
        static func digest(_ package: Manifest.Package, _ manifest: Manifest) -> String {
            let folder = Array("\(package.file)/".utf8)
            let lines = manifest.files.entries
                .filter { $0.name.utf8.starts(with: folder) }
                .map { "\($0.value.sha256) \($0.name)\n" }
                .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            return ContentDigest.of(Data(lines.joined().utf8))
        }
    }

    /// What Core ML or the file system threw, as `KokoroError.package`; an end by cancellation is
    /// none.
    func failure(_ error: any Error, at what: String) -> any Error {
        if error is KokoroError || error is CancellationError { return error }
        return KokoroError.package("Core ML failed at \(what): \(error.localizedDescription)")
    }
#endif
